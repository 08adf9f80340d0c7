"""From the bytes a provider sent to speech at 16 kHz, with every time mapped back to the recording."""
