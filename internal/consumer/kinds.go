package consumer

// TaskKinds returns the kinds of task that the built-in consumers dispatch.
func TaskKinds() []string { return []string{"cancel_research", "chat", "chat_edit", "crew"} }
