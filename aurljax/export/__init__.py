"""From a generated score to the files a musician takes away."""
