"""What a new experiment is proposed from: the data, the machine, and rules with reasons."""
