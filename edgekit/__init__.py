"""edgekit: trained models to devices that you own, and kept well there."""
