package pubsub

// WantedGroups returns how many subscriptions the bus remembers, wanted or under way.
func (r *Redis) WantedGroups() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.subs)
}
