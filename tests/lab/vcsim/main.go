// Copyright (c) 2026 The pxemanager.esxi authors
// GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// A vcsim for the lab. Debian packages govmomi's simulator as a library and leaves the vcsim command out, so this
// is the smallest command around that library. Its options are a subset of upstream vcsim's, with the same names and
// the same line on standard output ("export GOVC_URL=..."), so that the lab and the tests can use either one.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	_ "github.com/vmware/govmomi/lookup/simulator"
	"github.com/vmware/govmomi/simulator"
	_ "github.com/vmware/govmomi/sts/simulator"
	_ "github.com/vmware/govmomi/vapi/simulator"
)

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	model := simulator.VPX()
	flag.IntVar(&model.Datacenter, "dc", model.Datacenter, "number of datacenters")
	flag.IntVar(&model.Cluster, "cluster", model.Cluster, "number of clusters in a datacenter")
	flag.IntVar(&model.ClusterHost, "host", model.ClusterHost, "number of hosts in a cluster")
	flag.IntVar(&model.Host, "standalone-host", model.Host, "number of standalone hosts in a datacenter")
	flag.IntVar(&model.Machine, "vm", model.Machine, "number of virtual machines in a resource pool")
	flag.IntVar(&model.Datastore, "ds", model.Datastore, "number of datastores")
	flag.IntVar(&model.Portgroup, "pg", model.Portgroup, "number of distributed port groups in a datacenter")
	flag.IntVar(&model.Pool, "pool", model.Pool, "number of resource pools in a cluster")
	flag.IntVar(&model.App, "app", model.App, "number of vApps in a cluster")
	flag.IntVar(&model.Pod, "pod", model.Pod, "number of storage pods in a datacenter")
	flag.IntVar(&model.Folder, "folder", model.Folder, "number of datacenters that lie in folders of their own")
	flag.BoolVar(&model.Autostart, "autostart", model.Autostart, "power the virtual machines on")
	flag.IntVar(&model.DelayConfig.Delay, "delay", 0, "milliseconds that every call takes longer")
	flag.BoolVar(&simulator.Trace, "trace", false, "write every SOAP message to standard error")
	esx := flag.Bool("esx", false, "be an ESXi host, not a vCenter")
	listen := flag.String("l", "127.0.0.1:8989", "address and port; port 0 takes a free one")
	username := flag.String("username", "", "the only user that may log in (default: any)")
	password := flag.String("password", "", "password of that user")
	withTLS := flag.Bool("tls", true, "serve HTTPS")
	certFile := flag.String("tlscert", "", "certificate file (PEM)")
	keyFile := flag.String("tlskey", "", "key file (PEM)")
	apiVersion := flag.String("api-version", "", "API version to announce, for example 8.0.3.0")
	flag.Parse()

	if *esx {
		counts := model
		model = simulator.ESX()
		model.Datastore, model.Machine = counts.Datastore, counts.Machine
		model.Autostart, model.DelayConfig = counts.Autostart, counts.DelayConfig
	}
	if *apiVersion != "" {
		parts := strings.SplitN(*apiVersion, ".", 4)
		model.ServiceContent.About.ApiVersion = *apiVersion
		if len(parts) > 3 {
			parts = parts[:3]
		}
		model.ServiceContent.About.Version = strings.Join(parts, ".")
	}
	defer model.Remove()
	fatal(model.Create())
	if !*esx {
		register()
	}

	service := model.Service
	service.Listen = &url.URL{Host: *listen}
	if *username != "" {
		service.Listen.User = url.UserPassword(*username, *password)
	}
	if *withTLS {
		service.TLS = new(tls.Config)
		if *certFile != "" {
			pair, err := tls.LoadX509KeyPair(*certFile, *keyFile)
			fatal(err)
			service.TLS.Certificates = []tls.Certificate{pair}
		}
	}
	service.RegisterEndpoints = !*esx
	server := service.NewServer()
	defer server.Close()

	fmt.Printf("export GOVC_URL=%s GOVC_SIM_PID=%d\n", server.URL, os.Getpid())

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
}
