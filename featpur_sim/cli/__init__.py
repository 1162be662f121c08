"""The ``featpur`` command. It parses, calls the library and prints."""
