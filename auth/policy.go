package auth

// Policy is a shared access policy of the hub.
type Policy struct {
	Name         string
	PrimaryKey   string // base64
	SecondaryKey string // base64
	Rights       Rights
}
