package consumer

import "reflect"

// Frames returns the types of frames, by the names of their schemas in docs/api: those that are sent,
// and those that are received.
func Frames() (sent, received map[string]reflect.Type) {
	sent = map[string]reflect.Type{
		"Error": reflect.TypeFor[ErrorFrame](), "Subscribed": reflect.TypeFor[groupFrame](), "Pong": reflect.TypeFor[pongFrame](),
		"History":  reflect.TypeFor[historyFrame](),
		"Greeting": reflect.TypeFor[messageFrame](), "Echo": reflect.TypeFor[messageFrame](), "TestAnswer": reflect.TypeFor[messageFrame](),
		"RepeatedMessage": reflect.TypeFor[userMessage](), "SystemMessage": reflect.TypeFor[systemMessage](), "CrewStarted": reflect.TypeFor[crewStarted](),
		"HumanInputAccepted": reflect.TypeFor[acceptedFrame](), "CancelResponse": reflect.TypeFor[workReply](),
	}
	received = map[string]reflect.Type{
		"Subscribe": reflect.TypeFor[subscribeFrame](), "Wanted": reflect.TypeFor[wanted](), "Unsubscribe": reflect.TypeFor[unsubscribeFrame](),
		"AskHistory": reflect.TypeFor[historyQuestion](),
		"HumanInput": reflect.TypeFor[inputFrame](), "AnswerContext": reflect.TypeOf(chatMessage{}.Context).Elem(),
	}
	return sent, received
}

// ChatMessage is the type of all messages of a chat.
func ChatMessage() reflect.Type { return reflect.TypeFor[chatMessage]() }
