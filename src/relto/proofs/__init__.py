"""Proof that no chain of moves that the rules permit leaks, however long (DESIGN §5)."""
