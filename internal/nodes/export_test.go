package nodes

// Hear passes on what arrives on the channel.
func (n *Nodes) Hear(payload string) { n.hear(payload) }

// DecodeQuestion and DecodeNode are the decoders of what others write to Redis.
func DecodeQuestion(text []byte) (id, topic string, err error) {
	q, err := decodeQuestion(text)
	return q.ID, q.Topic, err
}

// DecodeNode decodes the text of a node.
func DecodeNode(text []byte) (Node, error) { return decodeNode(text) }
