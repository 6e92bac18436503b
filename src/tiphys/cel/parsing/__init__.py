"""From text to a syntax tree, and what is wrong with text that is not an expression."""
