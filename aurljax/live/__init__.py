"""Music played while it is made: events as MIDI messages, when each is due, and the port they go to."""
