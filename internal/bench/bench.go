// Package bench is the load generator behind `gateway bench`. It opens connections, signs in, joins
// groups, publishes through Redis, checks every single delivery and reports the resources that the
// server used. It knows the server only from outside: its protocol, its Redis names, its cookies.
//
// The client must cost far less than the server that it measures. So it has no goroutine for each
// connection. A few event loops over epoll each read into one shared buffer and find the checked
// fields without decoding JSON (see payload.go).
//
// The same client and load also run against a server that only writes ([Limit]), so that every
// figure can be compared to the machine's limit.
package bench
