"""Why something waits and until when: what every service knows of it, in one list of sentences."""
