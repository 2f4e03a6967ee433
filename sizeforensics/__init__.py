"""Where did every byte of this model file come from, and why is that one bigger?"""
