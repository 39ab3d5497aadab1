"""What keeps a run alive, and brings it back: guards, rollback, what stays on disk, one run at a time."""
