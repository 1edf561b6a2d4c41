"""DQM histograms: files of three formats become summaries, each file once."""
