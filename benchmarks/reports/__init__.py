"""How large a report becomes, and how long it takes."""
