"""Network architectures and what they see and say; the physics around them comes from ``physics``."""
