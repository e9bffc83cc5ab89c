"""What each protocol tells of the models besides their predictions: one file a protocol."""
