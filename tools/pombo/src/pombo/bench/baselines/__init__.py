"""What such systems usually start with, each as a program of its own against the same provider simulator."""
