"""Time travel on a recording: step through it forwards and backwards, in a debugger and in the terminal.

Everything is read from the trace; neither torch nor transformers nor the model is needed.
"""
