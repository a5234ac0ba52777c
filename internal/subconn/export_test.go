package subconn

// ParseRole finds the role in the text of an error of the client library.
func ParseRole(text string) (Role, bool) { return parseRole(text) }

// Others returns how many other connections of the client there are.
func (d *Dialer) Others() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.others)
}
