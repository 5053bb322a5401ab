"""Optional captures of a forward pass: attention weights, the logit lens, saved module outputs."""
