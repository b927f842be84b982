package query

import (
	"slices"
	"strings"
)

// twinNames are what a twin's document begins its paths with, by how they are spelled in small letters.
var twinNames = spellings("deviceId", "moduleId", "etag", "deviceEtag", "status", "statusReason", "statusUpdateTime",
	"connectionState", "lastActivityTime", "cloudToDeviceMessageCount", "authenticationType", "x509Thumbprint", "version", "modelId",
	"capabilities", "deviceScope", "parentScopes", "tags", "properties", "configurations")

// jobNames are the members of a row of devices.jobs.
var jobNames = spellings("deviceId", "moduleId", "jobId", "jobType", "status", "startTimeUtc", "endTimeUtc", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "outcome", "error")

func spellings(names ...string) map[string]string {
	m := make(map[string]string, len(names))
	for _, name := range names {
		m[strings.ToLower(name)] = name
	}
	return m
}

// aliases are other spellings: tools write STARTSWITH(id, 'prefix'), and the article on jobs asks for createdTimeUtc.
var aliases = [...]map[string]string{
	Devices: {"id": "deviceId"},
	Modules: {"id": "deviceId"},
	Jobs:    {"createdtimeutc": "createdDateTimeUtc", "lastupdatedtimeutc": "lastUpdatedDateTimeUtc"},
}

// resolve turns the names of an attribute, as they are written, into the path that rows know.
func (c Collection) resolve(path []string, alias string) []string {
	path = c.strip(path, alias)
	names, written := twinNames, strings.ToLower(path[0])
	if c == Jobs {
		names = jobNames
	}
	name, known := names[written]
	if !known {
		name, known = aliases[c][written]
	}
	if known && name != path[0] {
		path = slices.Clone(path)
		path[0] = name
	}
	return path
}

// strip takes the collection's name off a path, or the one that FROM gave it. "devices.deviceId" is said of modules, too.
func (c Collection) strip(path []string, alias string) []string {
	switch {
	case len(path) == 1:
		return path
	case alias != "" && path[0] == alias:
		return path[1:]
	case !strings.EqualFold(path[0], "devices"):
		return path
	case len(path) > 2 && c == Modules && strings.EqualFold(path[1], "modules"), len(path) > 2 && c == Jobs && strings.EqualFold(path[1], "jobs"):
		return path[2:]
	}
	return path[1:]
}
