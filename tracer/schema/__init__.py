"""Records: frozen values that hooks produce, trace files store and reports read."""
