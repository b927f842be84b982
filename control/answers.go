package control

import "time"

// Violations is the answer of GET /iolite/v1/violations.
type Violations struct {
	Count      int         `json:"count"` // since start or the last DELETE, listed or not
	Violations []Violation `json:"violations"`
}

// Violation is one HTTP poll that came too soon.
type Violation struct {
	DeviceID string    `json:"deviceId"`
	At       time.Time `json:"at"`
	Previous time.Time `json:"previous"`
	Elapsed  string    `json:"elapsed"`  // Go duration
	Interval string    `json:"interval"` // Go duration
	Refused  bool      `json:"refused"`
	Remote   string    `json:"remote"`
}

// ClockState is the answer of GET and POST /iolite/v1/clock.
type ClockState struct {
	Now    time.Time `json:"now"`
	Offset string    `json:"offset"` // how far it has been moved ahead of real time; Go duration
}

// ClockChange is the body of POST /iolite/v1/clock.
type ClockChange struct {
	Advance string `json:"advance"` // Go duration, positive
}

// Connections is the answer of GET /iolite/v1/connections.
type Connections struct {
	Connections []Connection `json:"connections"`
}

// Connection is a connected device or module.
type Connection struct {
	DeviceID       string    `json:"deviceId"`
	ModuleID       string    `json:"moduleId,omitempty"`
	Door           string    `json:"door"`
	Remote         string    `json:"remote"`
	Since          time.Time `json:"since"`
	UserAgent      string    `json:"userAgent,omitempty"`
	Authentication string    `json:"authentication"`
	BytesIn        int64     `json:"bytesIn"`
	BytesOut       int64     `json:"bytesOut"`
}

// Disconnected is the answer of DELETE /iolite/v1/connections/{deviceId}.
type Disconnected struct {
	Disconnected int `json:"disconnected"`
}

// Problem is the body of every error answer.
type Problem struct {
	Error string `json:"error"`
}
