package usage

// ParseShare parses a field of an hour.
func ParseShare(field, text string) (Share, bool) {
	organization, _, ok := parseField(field)
	share, err := decode(organization, text)
	return share, ok && err == nil
}
