"""Makes what the tests hear: sample calls, phrases, and sounds; and the speech detector that hears them."""
