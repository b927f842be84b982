package amqp10

// Source is where the messages of a link come from (AMQP 3.5.3).
type Source struct {
	Address               string // "" when absent
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32 // seconds
	Dynamic               bool
	DynamicNodeProperties Map
	DistributionMode      Symbol
	Filter                Map // symbol to Described, as the client sent it
	DefaultOutcome        DeliveryState
	Outcomes              []Symbol
	Capabilities          []Symbol
}

// Target is where the messages of a link go to (AMQP 3.5.4).
type Target struct {
	Address               string // "" when absent
	Durable               uint32
	ExpiryPolicy          Symbol
	Timeout               uint32 // seconds
	Dynamic               bool
	DynamicNodeProperties Map
	Capabilities          []Symbol
}
