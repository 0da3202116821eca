"""What an experiment's file may say, and how it is read."""
