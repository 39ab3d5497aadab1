"""What a run tells of itself: metrics, progress, the log, anomalies, and what they are measured by."""
