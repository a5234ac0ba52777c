package task

// Decode decodes an entry as a worker does.
func Decode(kind string, fields map[string]string) (*Task, error) { return decode(kind, fields) }

// Fields returns the entry that a dispatcher makes from a task.
func (t *Task) Fields() []any { return t.fields() }
