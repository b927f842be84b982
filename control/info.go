package control

import "net/http"

// Info is what a client needs to know of a running hub: the answer of GET /iolite/v1/info, in JSON.
type Info struct {
	Version  string `json:"version"`
	Hub      string `json:"hub"`      // the hub's name, also the Event Hubs-compatible name
	Hostname string `json:"hostname"` // as it stands in the connection strings
	Bind     string `json:"bind"`     // address of the doors
	Doors    []Door `json:"doors"`
	Control  string `json:"control"` // address of the control API, "host:port"

	// Secrets are development secrets, documented and the same in every process.
	ConnectionString          string             `json:"connectionString"`          // of the policy iothubowner
	EventHubsConnectionString string             `json:"eventHubsConnectionString"` // over TLS
	EmulatorConnectionString  string             `json:"emulatorConnectionString"`  // plain AMQP, with UseDevelopmentEmulator=true
	StorageConnectionString   string             `json:"storageConnectionString"`   // of the account that holds uploaded files; empty when they go elsewhere
	Policies                  []PolicyInfo       `json:"policies"`
	Devices                   []DeviceConnection `json:"devices"` // those created at start, by --device and the seed

	CA     string `json:"ca"`   // path of the CA's PEM file; empty when it is in memory only
	Auth   string `json:"auth"` // strict or off
	Poll   string `json:"httpPoll"`
	PollIn string `json:"httpPollInterval"` // Go duration, for instance "25m0s"
}

// Door is a listening port.
type Door struct {
	Name  string `json:"name"` // mqtt, amqp, https, eventhub
	Port  int    `json:"port"`
	Moved bool   `json:"moved"` // not the port that was asked for
}

// PolicyInfo is a shared access policy with its keys.
type PolicyInfo struct {
	Name             string `json:"name"`
	PrimaryKey       string `json:"primaryKey"`
	SecondaryKey     string `json:"secondaryKey"`
	ConnectionString string `json:"connectionString"`
}

// DeviceConnection is a device with the connection string its client needs. ConnectionString is empty for X.509 devices.
type DeviceConnection struct {
	DeviceID         string `json:"deviceId"`
	ConnectionString string `json:"connectionString"`
}

// getInfo is GET /iolite/v1/info.
func (s *Server) getInfo(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, s.info()) }

// info returns what there is to know, with empty lists instead of none.
func (s *Server) info() Info {
	i := s.Info()
	i.Doors = append([]Door{}, i.Doors...)
	i.Policies = append([]PolicyInfo{}, i.Policies...)
	i.Devices = append([]DeviceConnection{}, i.Devices...)
	return i
}
