package store

import "context"

// Engine is everything a hub keeps its state in.
type Engine interface {
	Registry() Registry
	Twins() Twins // of the Registry's identities
	Jobs() Jobs   // scheduled jobs
	Configurations() Configurations
	Devicebound() Queues // cloud-to-device messages, by device or module
	Feedback() Queues    // batches of feedback records, by the empty Key
	Uploads() Uploads
	FileNotifications() Queues // of uploads, by the empty Key
	Events() EventLog          // of the built-in endpoint
	EventHubs() EventHubs
	// Reset empties everything; sequence numbers and offsets of events start anew.
	Reset(ctx context.Context) error
}
