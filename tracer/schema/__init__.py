"""What a record is: frozen values that hooks emit, trace files keep and reports read."""
