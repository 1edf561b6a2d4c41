"""What lumiwatch says to the control room, and how it makes sure that it is heard exactly once."""
