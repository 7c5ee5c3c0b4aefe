"""Quantization: what int8 costs a model, and what is done about it: ranges, biases, inputs, layers kept in float."""
