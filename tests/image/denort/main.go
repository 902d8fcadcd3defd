// Stands in for denort, Deno's runtime for binaries, where the network has it not. `DENORT_BIN=this deno compile …` puts
// script, permissions and flags for V8 behind it as it would behind denort; at the start this program reads them back
// and becomes an ordinary `deno run` of them. So everything of a compiled program is tried but the runtime itself.
//
// What stands in the program, all numbers little-endian (deno, cli/lib/standalone/binary.rs): a mark; metadata and npm
// snapshot, each with its length before it (8 bytes); three lists, each with its number of entries (4 bytes); folder and
// files, each with its length. Only what a bundle gives is understood: no npm packages, empty lists, one flat folder.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Where tests/image/bases.ts puts the runtime into the image that has this program.
const deno = "/usr/local/lib/deno"

type metadata struct {
	Argv        []string                   `json:"argv"`
	Permissions map[string]json.RawMessage `json:"permissions"`
	V8Flags     []string                   `json:"v8_flags"`
	Entrypoint  string                     `json:"entrypoint_key"`
}

type script struct {
	name string
	text []byte
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "Cannot start in place of denort: %v\n", err)
		os.Exit(70)
	}
}

func run() error {
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	meta, scripts, err := unpack(program)
	if err != nil {
		return err
	}
	folder, err := keep(scripts)
	if err != nil {
		return err
	}
	args := append(denoRun(meta), filepath.Join(folder, meta.Entrypoint))
	args = append(append(args, meta.Argv...), os.Args[1:]...)
	return syscall.Exec(deno, args, append(os.Environ(), "DENO_NO_UPDATE_CHECK=1"))
}

// unpack finds what `deno compile` wrote behind the program.
func unpack(program []byte) (meta metadata, scripts []script, err error) {
	// The section's name, then the data's own first bytes, which are the same. Not as one word: this is the same file.
	mark := []byte{'d', '3', 'n', '0', 'l', '4', 'n', 'd'}
	at := bytes.Index(program, bytes.Repeat(mark, 2))
	if at < 0 {
		return meta, nil, errors.New("nothing was compiled into it")
	}
	rest := program[at+2*len(mark):]
	take := func() (part []byte) {
		if len(rest) < 8 || binary.LittleEndian.Uint64(rest) > uint64(len(rest)-8) {
			err = errors.New("what was compiled into it is cut off")
			return nil
		}
		length := binary.LittleEndian.Uint64(rest)
		part, rest = rest[8:8+length], rest[8+length:]
		return part
	}
	text, npm := take(), take()
	if err != nil {
		return meta, nil, err
	}
	if err := json.Unmarshal(text, &meta); err != nil {
		return meta, nil, fmt.Errorf("its metadata: %w", err)
	}
	const lists = 3 * 4
	if len(npm) > 0 || len(rest) < lists || !bytes.Equal(rest[:lists], make([]byte, lists)) {
		return meta, nil, errors.New("it holds packages or modules of the network, not a bundle")
	}
	rest = rest[lists:]
	var folder []struct {
		File *struct {
			Name  string    `json:"n"`
			Place [2]uint64 `json:"o"` // Where it begins, and its length.
		}
	}
	text, files := take(), take()
	if err != nil {
		return meta, nil, err
	}
	if err := json.Unmarshal(text, &folder); err != nil {
		return meta, nil, fmt.Errorf("its folder: %w", err)
	}
	for _, entry := range folder {
		if entry.File == nil || entry.File.Name != filepath.Base(entry.File.Name) {
			return meta, nil, errors.New("it holds folders, not a bundle")
		}
		begin, length := entry.File.Place[0], entry.File.Place[1]
		if begin > uint64(len(files)) || length > uint64(len(files))-begin {
			return meta, nil, errors.New("a file of it is cut off")
		}
		scripts = append(scripts, script{entry.File.Name, files[begin : begin+length]})
	}
	return meta, scripts, nil
}

// keep lays the scripts where a container with a read-only root may still write, in a folder that their content names.
func keep(scripts []script) (string, error) {
	hash := sha256.New()
	for _, one := range scripts {
		hash.Write(one.text)
	}
	folder := fmt.Sprintf("/dev/shm/%x", hash.Sum(nil))
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	// Under another name until it is whole: the health command starts beside the service.
	part, err := os.MkdirTemp(filepath.Dir(folder), "scripts-")
	if err != nil {
		return "", err
	}
	for _, one := range scripts {
		if err := os.WriteFile(filepath.Join(part, one.name), one.text, 0o600); err != nil {
			return "", err
		}
	}
	if err := os.Rename(part, folder); err != nil {
		// Somebody else was faster.
		if _, there := os.Stat(folder); there != nil {
			return "", err
		}
		return folder, os.RemoveAll(part)
	}
	return folder, nil
}

// denoRun is the command with the flags that the metadata stand for; the first word is the program's own name.
func denoRun(meta metadata) []string {
	args := []string{os.Args[0], "run", "--no-config", "--no-lock", "--node-modules-dir=none", "--no-check", "--no-prompt"}
	for _, flag := range meta.V8Flags {
		// The others are Deno's own, which it sets by itself.
		if strings.HasPrefix(flag, "--max-") || strings.Contains(flag, "memory-reducer") {
			args = append(args, "--v8-flags="+flag)
		}
	}
	for name, value := range meta.Permissions {
		var of []string
		// null: not given; an empty list: for all.
		if json.Unmarshal(value, &of) != nil || of == nil || !strings.HasPrefix(name, "allow_") || name == "allow_import" {
			continue
		}
		flag := "--" + strings.ReplaceAll(name, "_", "-")
		if len(of) > 0 {
			flag += "=" + strings.Join(of, ",")
		}
		args = append(args, flag)
	}
	return args
}
