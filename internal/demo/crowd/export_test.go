package crowd

// Check is Size.check.
func (s Size) Check(openFiles int) error { return s.check(openFiles) }
