"""From ROOT files to datasets, in bounded memory."""
