"""Turn a recording into something a person reads; never needs the model, torch or transformers."""
