"""The library's variables as a recording holds them: shown in one line, opened on demand, indexed."""
