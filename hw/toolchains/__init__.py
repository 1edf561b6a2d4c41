"""The toolchains lumiwatch brings along, one module each."""
