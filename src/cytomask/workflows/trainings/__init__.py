"""What a training begins with, in one process or several."""
