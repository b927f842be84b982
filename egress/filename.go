package egress

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const maxFileName = 512 // bytes of a format; the names it makes stay within the 1024 of a blob's

// fileNameTokens must all stand in a format, in any order (article "Use IoT Hub message routing": "you must use all listed tokens").
var fileNameTokens = []string{"{iothub}", "{partition}", "{YYYY}", "{MM}", "{DD}", "{HH}", "{mm}"}

// fileName makes the names of blobs.
type fileName struct{ format string }

func parseFileName(format string) (fileName, error) {
	if len(format) > maxFileName {
		return fileName{}, fmt.Errorf("the file name format is longer than %d characters", maxFileName)
	}
	rest := format
	for _, token := range fileNameTokens {
		if !strings.Contains(rest, token) {
			return fileName{}, errors.New("the file name format has no " + token + "; it must have all of " + strings.Join(fileNameTokens, " "))
		}
		rest = strings.ReplaceAll(rest, token, "")
	}
	if strings.ContainsAny(rest, "{}?#\\") {
		return fileName{}, errors.New("the file name format has something else in braces, or one of ? # \\")
	}
	for segment := range strings.SplitSeq(format, "/") {
		if segment == "" || strings.Trim(segment, ".") == "" {
			return fileName{}, errors.New("the file name format has an empty part, or one of dots alone, between slashes")
		}
	}
	return fileName{format}, nil
}

// name returns the name of a blob that is written at a time. copy tells blobs apart that are written in one minute: it is 0 for the first,
// which has the name that the format gives; others have _01 and so on at the end.
func (f fileName) name(hub string, partition int, at time.Time, copy int) string {
	at = at.UTC()
	name := strings.NewReplacer(
		"{iothub}", hub, "{partition}", strconv.Itoa(partition),
		"{YYYY}", at.Format("2006"), "{MM}", at.Format("01"), "{DD}", at.Format("02"), "{HH}", at.Format("15"), "{mm}", at.Format("04"),
	).Replace(f.format)
	if copy > 0 {
		name += fmt.Sprintf("_%02d", copy)
	}
	return name
}
