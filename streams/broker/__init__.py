"""The broker: the embedded one and its bound, topics of any, and how to speak to them."""
