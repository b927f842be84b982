package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
)

// configResolver gives flags the values of the file named by --config or IOLITE_CONFIG. Flags and variables rank above it.
type configResolver struct {
	name   string
	values map[string]any
}

// Validate implements kong.Resolver.
func (*configResolver) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver.
func (r *configResolver) Resolve(ctx *kong.Context, parent *kong.Path, flag *kong.Flag) (any, error) {
	config := findFlag(parent.Flags, "config")
	if config == nil || flag == config || fromEnv(flag) != "" {
		return nil, nil
	}
	if err := r.load(configName(ctx, config), parent.Flags); err != nil {
		return nil, err
	}
	return r.values[flag.Name], nil
}

// load reads the file once; a key that is no flag is an error.
func (r *configResolver) load(name string, flags []*kong.Flag) error {
	if name == r.name {
		return nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := yaml.Unmarshal(text, &values); err != nil {
		return fmt.Errorf("--config %s:\n%s", name, yaml.FormatError(err, false, true))
	}
	r.name, r.values = name, map[string]any{}
	for key, value := range values {
		if f := findFlag(flags, key); f == nil || key == "config" || key == "help" {
			return fmt.Errorf("--config %s: %q is no flag of serve", name, key)
		}
		r.values[key] = flagText(value)
	}
	return nil
}

// flagText renders a YAML value as the flag's text would stand on the command line.
func flagText(value any) any {
	list, ok := value.([]any)
	if !ok {
		return fmt.Sprint(value)
	}
	texts := make([]string, len(list))
	for i, v := range list {
		texts[i] = strings.ReplaceAll(fmt.Sprint(v), ",", `\,`) // kong splits lists at commas
	}
	return strings.Join(texts, ",")
}

func configName(ctx *kong.Context, config *kong.Flag) string {
	if name, ok := ctx.FlagValue(config).(string); ok && name != "" {
		return name
	}
	return fromEnv(config)
}

func findFlag(flags []*kong.Flag, name string) *kong.Flag {
	for _, f := range flags {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// fromEnv returns the value of the flag's variable, "" when it has none.
func fromEnv(flag *kong.Flag) string {
	for _, name := range flag.Envs {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}
