"""The package's version, which is also that of the library it loads."""

__version__ = "0.1.0"
