"""Settings, names and archives of PtychoPINN, translated in both directions."""
