"""How time and memory grow when one dimension of a file doubles: near 1 is linear."""
