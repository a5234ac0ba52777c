package admin

// Patterns returns the patterns of all paths.
func (o *Options) Patterns() (patterns []string) {
	for _, r := range o.routes() {
		patterns = append(patterns, r.pattern)
	}
	return patterns
}
