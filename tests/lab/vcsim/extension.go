// Copyright (c) 2026 The pxemanager.esxi authors
// GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What the simulator cannot be told through its own API: that a host is disconnected, lies somewhere else, has another
// certificate; and a task that ends as somebody else decides. One object of a type that no vCenter has is added, so no
// object of the simulator is replaced. Whether any of it may happen, and with which fault not, is decided by the
// gateway in front (pxelab.vcenter_hosts), which is the only one that calls it.
package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// extension answers ExecuteSimpleCommand: a verb and its arguments, and a text back.
type extension struct {
	Self types.ManagedObjectReference
}

func (e *extension) Reference() types.ManagedObjectReference {
	return e.Self
}

// hostAccess is a host's own HostAccessManager; the simulator's hosts all point at one that does not exist.
type hostAccess struct {
	mo.HostAccessManager

	host *simulator.HostSystem
}

func (a *hostAccess) ChangeLockdownMode(req *types.ChangeLockdownMode) soap.HasFault {
	a.LockdownMode = req.Mode
	simulator.Map.Update(a.host, []types.PropertyChange{{Name: "config.lockdownMode", Val: req.Mode}})
	return &methods.ChangeLockdownModeBody{Res: &types.ChangeLockdownModeResponse{}}
}

func register() {
	simulator.Map.Put(&extension{Self: types.ManagedObjectReference{Type: "SimpleCommand", Value: "pxelab"}})
}

func (e *extension) ExecuteSimpleCommand(ctx *simulator.Context, req *types.ExecuteSimpleCommand) soap.HasFault {
	body := &methods.ExecuteSimpleCommandBody{}
	answer, err := e.execute(ctx, req.Arguments)
	if err != nil {
		body.Fault_ = simulator.Fault(err.Error(), &types.InvalidArgument{InvalidProperty: "arguments"})
		return body
	}
	body.Res = &types.ExecuteSimpleCommandResponse{Returnval: answer}
	return body
}

func (e *extension) execute(ctx *simulator.Context, words []string) (string, error) {
	argument := func(n int) string {
		if n < len(words) {
			return words[n]
		}
		return ""
	}
	switch argument(0) {
	case "find": // NAME: the id of the host of that name
		for _, one := range simulator.Map.All("HostSystem") {
			if one.Entity().Name == argument(1) {
				return one.Reference().Value, nil
			}
		}
		return "", nil
	case "hosts": // the ids of all hosts
		ids := []string{}
		for _, one := range simulator.Map.All("HostSystem") {
			ids = append(ids, one.Reference().Value)
		}
		return asJSON(ids)
	case "child": // TYPE ID NAME: whether a folder or a cluster has something of that name
		return asJSON(hasChild(reference(argument(1), argument(2)), argument(3)))
	case "datacenter": // TYPE ID: the id of the datacenter that an object is in
		item, ok := simulator.Map.Get(reference(argument(1), argument(2))).(mo.Entity)
		if !ok {
			return "", fmt.Errorf("there is no %s %q", argument(1), argument(2))
		}
		return datacenter(item), nil
	case "task": // TYPE ID NAME SECONDS good|bad: the id of a task that is over after that time
		return task(reference(argument(1), argument(2)), argument(3), argument(4), argument(5) == "good")
	}
	host, ok := simulator.Map.Get(reference("HostSystem", argument(1))).(*simulator.HostSystem)
	if !ok {
		return "", fmt.Errorf("there is no host %q", argument(1))
	}
	switch argument(0) {
	case "describe":
		return asJSON(describe(host))
	case "adopt": // give a host what is its own
		access := &hostAccess{host: host}
		access.Self = reference("HostAccessManager", "hostaccess-"+host.Self.Value)
		access.LockdownMode = types.HostLockdownModeLockdownDisabled
		ref := simulator.Map.Put(access).Reference()
		simulator.Map.Update(host, []types.PropertyChange{
			{Name: "configManager.hostAccessManager", Val: ref},
			{Name: "config.lockdownMode", Val: types.HostLockdownModeLockdownDisabled},
		})
		return "", nil
	case "set": // ID state|maintenance|thumbprint VALUE
		return "", set(host, argument(2), argument(3))
	case "move": // ID TYPE ID: into a cluster or, as a standalone host, into a folder
		return "", move(host, simulator.Map.Get(reference(argument(2), argument(3))))
	}
	return "", fmt.Errorf("unknown verb %q", argument(0))
}

func reference(kind, id string) types.ManagedObjectReference {
	return types.ManagedObjectReference{Type: kind, Value: id}
}

func asJSON(value interface{}) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

func describe(host *simulator.HostSystem) map[string]interface{} {
	on := 0
	for _, ref := range host.Vm {
		vm, ok := simulator.Map.Get(ref).(*simulator.VirtualMachine)
		if ok && vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			on++
		}
	}
	return map[string]interface{}{
		"id":          host.Self.Value,
		"name":        host.Name,
		"parent":      host.Parent.Value,
		"parent_type": host.Parent.Type,
		"datacenter":  datacenter(host),
		"state":       host.Runtime.ConnectionState,
		"maintenance": host.Runtime.InMaintenanceMode,
		"thumbprint":  host.Summary.Config.SslThumbprint,
		"powered_on":  on,
	}
}

func datacenter(item mo.Entity) string {
	for item.Entity().Parent != nil {
		above, ok := simulator.Map.Get(*item.Entity().Parent).(mo.Entity)
		if !ok {
			break
		}
		item = above
		if item.Reference().Type == "Datacenter" {
			return item.Reference().Value
		}
	}
	return ""
}

func hasChild(ref types.ManagedObjectReference, name string) bool {
	switch parent := simulator.Map.Get(ref).(type) {
	case *simulator.Folder:
		return simulator.Map.FindByName(name, parent.ChildEntity) != nil
	case *simulator.ClusterComputeResource:
		return simulator.Map.FindByName(name, parent.Host) != nil
	}
	return false
}

func set(host *simulator.HostSystem, what, value string) error {
	change := types.PropertyChange{}
	switch what {
	case "state":
		change = types.PropertyChange{Name: "runtime.connectionState", Val: types.HostSystemConnectionState(value)}
	case "maintenance":
		change = types.PropertyChange{Name: "runtime.inMaintenanceMode", Val: value == "true"}
	case "thumbprint":
		change = types.PropertyChange{Name: "summary.config.sslThumbprint", Val: value}
	default:
		return fmt.Errorf("a host has no %q that can be set", what)
	}
	simulator.Map.Update(host, []types.PropertyChange{change})
	return nil
}

func task(entity types.ManagedObjectReference, name, delay string, good bool) (string, error) {
	wait, err := time.ParseDuration(delay + "s")
	if err != nil {
		return "", err
	}
	made := simulator.CreateTask(entity, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		time.Sleep(wait)
		if good {
			return nil, nil
		}
		return nil, &types.NoHost{}
	})
	if wait > 0 {
		go made.Run()
	} else {
		made.Run()
	}
	return made.Self.Value, nil
}

// move keeps the host's own object, as vCenter does.
func move(host *simulator.HostSystem, target mo.Reference) error {
	old := simulator.Map.Get(*host.Parent)
	var into mo.Entity
	switch to := target.(type) {
	case *simulator.ClusterComputeResource:
		simulator.Map.AddReference(to, &to.Host, host.Self)
		into = to
	case *simulator.Folder:
		resource := &mo.ComputeResource{Summary: new(types.ComputeResourceSummary)}
		resource.Name = host.Name
		simulator.Map.NewEntity(resource)
		pool := simulator.NewResourcePool()
		simulator.Map.PutEntity(resource, simulator.Map.NewEntity(pool))
		pool.Owner = resource.Self
		resource.ResourcePool = &pool.Self
		resource.Host = []types.ManagedObjectReference{host.Self}
		simulator.Map.AddReference(to, &to.ChildEntity, resource.Self)
		simulator.Map.PutEntity(to, resource)
		into = resource
	default:
		return fmt.Errorf("a host cannot be moved into %v", target)
	}
	switch from := old.(type) {
	case *simulator.ClusterComputeResource:
		simulator.Map.RemoveReference(from, &from.Host, host.Self)
	case *mo.ComputeResource: // a standalone host's own: it goes with the host
		if folder, ok := simulator.Map.Get(*from.Parent).(*simulator.Folder); ok {
			simulator.Map.RemoveReference(folder, &folder.ChildEntity, from.Self)
		}
		if from.ResourcePool != nil {
			simulator.Map.Remove(*from.ResourcePool)
		}
		simulator.Map.Remove(from.Self)
	}
	simulator.Map.Update(host, []types.PropertyChange{{Name: "parent", Val: into.Reference()}})
	return nil
}
