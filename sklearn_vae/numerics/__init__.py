"""Functions of arrays, random streams and constants, for torch and for numpy."""
