/*
 * Copyright (c) 2026 The pxemanager.esxi authors
 * GNU General Public License v3.0 or later (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A stand-in for ESXi's boot loader mboot.efi: a UEFI program that real firmware loads and that behaves at the network as
 * mboot does, so far as it is documented and was measured:
 *
 * - it is loaded by TFTP (PXE), by HTTP (UEFI HTTP boot) or by iPXE, and loads everything else the same way;
 * - it looks for <bootdir>/01-<mac>/boot.cfg, then <bootdir>/boot.cfg, or for what -c names;
 * - skip=1 gives the machine back to the firmware, which goes on with its next boot option (from "8.0.1" on);
 * - a missing or wrong boot.cfg, kernel or module is fatal: the machine stands still;
 * - a name without prefix is looked for beside boot.cfg, one that begins with a slash ignores the prefix.
 *
 * What it starts is Linux: the "kernel" of the medium is one with an EFI stub, its modules are pieces of the initrd, and
 * kernelopt is the command line. Built by build.sh with STANDS_FOR set to the ESXi version that it plays.
 */

#include <efi.h>
#include <efilib.h>

#ifndef STANDS_FOR
#define STANDS_FOR "8.0.3"
#endif
#ifndef KNOWS_SKIP
#define KNOWS_SKIP 1
#endif

#define LIMIT (256u * 1024 * 1024)
#define MAX_NAME 1024
#define MAX_MODULES 512
#define COMMAND_LINE_LIMIT 4096

/* --- protocols that the headers lack; layouts from the UEFI specification, and iPXE's own header ------------------- */

typedef struct {
    EFI_STATUS(EFIAPI *CreateChild)(VOID *, EFI_HANDLE *);
    EFI_STATUS(EFIAPI *DestroyChild)(VOID *, EFI_HANDLE);
} ServiceBinding;

typedef struct {
    BOOLEAN use_default_address;
    UINT8 address[4];
    UINT8 subnet[4];
    UINT16 port;
} HttpV4;

typedef struct {
    UINT32 version; /* 0: HTTP/1.0, 1: HTTP/1.1 */
    UINT32 timeout_milliseconds;
    BOOLEAN is_v6;
    HttpV4 *v4;
} HttpConfig;

typedef struct {
    UINT32 method; /* 0: GET */
    CHAR16 *url;
} HttpRequest;

typedef struct {
    UINT32 status; /* 3: 200 OK */
} HttpResponse;

typedef struct {
    CHAR8 *name;
    CHAR8 *value;
} HttpHeader;

typedef struct {
    VOID *data;
    UINTN header_count;
    HttpHeader *headers;
    UINTN length;
    VOID *body;
} HttpMessage;

typedef struct {
    EFI_EVENT event;
    EFI_STATUS status;
    HttpMessage *message;
} HttpToken;

typedef struct Http {
    VOID *get_mode_data;
    EFI_STATUS(EFIAPI *Configure)(struct Http *, HttpConfig *);
    EFI_STATUS(EFIAPI *Request)(struct Http *, HttpToken *);
    EFI_STATUS(EFIAPI *Cancel)(struct Http *, HttpToken *);
    EFI_STATUS(EFIAPI *Response)(struct Http *, HttpToken *);
    EFI_STATUS(EFIAPI *Poll)(struct Http *);
} Http;

typedef struct Download {
    EFI_STATUS(EFIAPI *Start)
    (struct Download *, CHAR8 *, EFI_STATUS(EFIAPI *)(VOID *, VOID *, UINTN, UINTN), VOID(EFIAPI *)(VOID *, EFI_STATUS), VOID *,
     VOID **);
    EFI_STATUS(EFIAPI *Abort)(struct Download *, VOID *, EFI_STATUS);
    EFI_STATUS(EFIAPI *Poll)(struct Download *);
} Download;

static EFI_GUID http_binding_guid = {0xbdc8e6af, 0xd9bc, 0x4379, {0xa7, 0x2a, 0xe0, 0xc4, 0xe7, 0x5d, 0xae, 0x1c}};
static EFI_GUID http_guid = {0x7a59b29b, 0x910b, 0x4171, {0x82, 0x42, 0xa8, 0x5a, 0x0d, 0xf2, 0x5b, 0x5b}};
static EFI_GUID download_guid = {0x3eaeaebd, 0xdecf, 0x493b, {0x9b, 0xd1, 0xcd, 0xb2, 0xde, 0xca, 0xe7, 0x19}};
static EFI_GUID load_file2_guid = {0x4006c0c1, 0xfcb3, 0x403e, {0x99, 0x6d, 0x4a, 0x6c, 0x87, 0x24, 0xe0, 0x6d}};
static EFI_GUID pxe_guid = EFI_PXE_BASE_CODE_PROTOCOL_GUID;
static EFI_GUID snp_guid = EFI_SIMPLE_NETWORK_PROTOCOL_GUID;
static EFI_GUID path_guid = EFI_DEVICE_PATH_PROTOCOL_GUID;

/* Where Linux looks for its initrd: a vendor media node with this GUID. */
static struct {
    VENDOR_DEVICE_PATH vendor;
    EFI_DEVICE_PATH end;
} initrd_path = {
    {{MEDIA_DEVICE_PATH, MEDIA_VENDOR_DP, {sizeof(VENDOR_DEVICE_PATH), 0}},
     {0x5568e427, 0x68fc, 0x4f3d, {0xac, 0x74, 0xca, 0x55, 0x52, 0x31, 0xcc, 0x68}}},
    {END_DEVICE_PATH_TYPE, END_ENTIRE_DEVICE_PATH_SUBTYPE, {sizeof(EFI_DEVICE_PATH), 0}},
};

/* --- state ---------------------------------------------------------------------------------------------------------- */

typedef enum { TFTP, HTTP, IPXE } Transport;

static EFI_HANDLE self;
static EFI_LOADED_IMAGE *loaded;
static Transport transport;
static EFI_PXE_BASE_CODE *pxe;
static EFI_IP_ADDRESS tftp_server;
static Http *http;
static Download *download;
static UINT8 mac[6];
static CHAR8 bootdir[MAX_NAME];
static VOID *initrd;
static UINTN initrd_size;

/* --- small things --------------------------------------------------------------------------------------------------- */

static VOID stand_still(CONST CHAR16 *format, CONST CHAR8 *what) {
    Print(L"mboot: fatal error: ");
    Print((CHAR16 *)format, what);
    Print(L"\nmboot: the machine stands still\n");
    for (;;)
        uefi_call_wrapper(BS->Stall, 1, 1000000);
}

static UINTN length(CONST CHAR8 *text) {
    UINTN count = 0;
    while (text[count])
        count++;
    return count;
}

static BOOLEAN starts(CONST CHAR8 *text, CONST CHAR8 *with) {
    while (*with)
        if (*text++ != *with++)
            return FALSE;
    return TRUE;
}

static BOOLEAN contains(CONST CHAR8 *text, CONST CHAR8 *part) {
    for (; *text; text++)
        if (starts(text, part))
            return TRUE;
    return FALSE;
}

static VOID join(CHAR8 *out, UINTN limit, CONST CHAR8 *first, CONST CHAR8 *second) {
    if (length(first) + length(second) + 1 > limit)
        stand_still(L"a name is too long: %a", first);
    while (*first)
        *out++ = *first++;
    while ((*out++ = *second++))
        ;
}

/* Up to and with the last slash. */
static VOID folder_of(CHAR8 *out, CONST CHAR8 *name) {
    UINTN end = length(name);
    while (end > 0 && name[end - 1] != '/')
        end--;
    CopyMem(out, (VOID *)name, end);
    out[end] = 0;
}

/* --- loading one file ----------------------------------------------------------------------------------------------- */

typedef struct {
    UINT8 *data;
    UINTN size, room;
    BOOLEAN finished;
    EFI_STATUS status;
} File;

static EFI_STATUS make_room(File *file, UINTN wanted) {
    if (wanted <= file->room)
        return EFI_SUCCESS;
    if (wanted > LIMIT)
        return EFI_OUT_OF_RESOURCES;
    UINTN room = file->room ? file->room * 2 : 65536;
    while (room < wanted)
        room *= 2;
    UINT8 *data = AllocatePool(room);
    if (!data)
        return EFI_OUT_OF_RESOURCES;
    if (file->data) {
        CopyMem(data, file->data, file->size);
        FreePool(file->data);
    }
    file->data = data;
    file->room = room;
    return EFI_SUCCESS;
}

static EFI_STATUS load_tftp(CONST CHAR8 *name, File *file) {
    UINT64 size = 0;
    UINTN block = 1468;
    EFI_STATUS status = uefi_call_wrapper(pxe->Mtftp, 10, pxe, EFI_PXE_BASE_CODE_TFTP_GET_FILE_SIZE, NULL, FALSE, &size,
                                          &block, &tftp_server, (UINT8 *)name, NULL, FALSE);
    if (EFI_ERROR(status))
        return status;
    status = make_room(file, size ? size : 1);
    if (EFI_ERROR(status))
        return status;
    status = uefi_call_wrapper(pxe->Mtftp, 10, pxe, EFI_PXE_BASE_CODE_TFTP_READ_FILE, file->data, FALSE, &size, &block,
                               &tftp_server, (UINT8 *)name, NULL, FALSE);
    file->size = size;
    return status;
}

static VOID EFIAPI nothing(EFI_EVENT event, VOID *context) {
}

static EFI_STATUS wait_for(HttpToken *token) {
    while (token->status == EFI_NOT_READY)
        uefi_call_wrapper(http->Poll, 1, http);
    return token->status;
}

static UINTN content_length(HttpMessage *message) {
    for (UINTN i = 0; i < message->header_count; i++) {
        CONST CHAR8 *want = (CHAR8 *)"content-length", *name = message->headers[i].name;
        while (*want && (*name | 0x20) == *want)
            want++, name++;
        if (!*want && !*name)
            return Atoi(PoolPrint(L"%a", message->headers[i].value));
    }
    return (UINTN)-1;
}

static EFI_STATUS load_http(CONST CHAR8 *name, File *file) {
    CHAR8 host[MAX_NAME];
    CONST CHAR8 *from = name + 7;
    UINTN i = 0;
    if (!starts(name, (CHAR8 *)"http://"))
        return EFI_UNSUPPORTED;
    while (from[i] && from[i] != '/' && i < MAX_NAME - 1) {
        host[i] = from[i];
        i++;
    }
    host[i] = 0;
    HttpHeader headers[] = {{(CHAR8 *)"Host", host}, {(CHAR8 *)"User-Agent", (CHAR8 *)"esx-boot/2.0"}, {(CHAR8 *)"Accept", (CHAR8 *)"*/*"}};
    HttpRequest request = {0, PoolPrint(L"%a", name)};
    HttpMessage message = {&request, 3, headers, 0, NULL};
    HttpToken token = {NULL, EFI_NOT_READY, &message};
    EFI_STATUS status = uefi_call_wrapper(BS->CreateEvent, 5, EVT_NOTIFY_SIGNAL, TPL_CALLBACK, nothing, NULL, &token.event);
    if (EFI_ERROR(status))
        return status;
    status = uefi_call_wrapper(http->Request, 2, http, &token);
    if (!EFI_ERROR(status))
        status = wait_for(&token);
    if (EFI_ERROR(status))
        return status;
    HttpResponse response = {0};
    HttpMessage answer = {&response, 0, NULL, 0, NULL};
    token.message = &answer;
    token.status = EFI_NOT_READY;
    status = uefi_call_wrapper(http->Response, 2, http, &token);
    if (EFI_ERROR(status))
        return status;
    status = wait_for(&token);
    if (response.status && response.status != 3)
        return EFI_NOT_FOUND;
    if (EFI_ERROR(status))
        return status;
    /* mboot reads no chunked answers either */
    UINTN wanted = content_length(&answer);
    if (wanted == (UINTN)-1)
        return EFI_PROTOCOL_ERROR;
    status = make_room(file, wanted ? wanted : 1);
    while (!EFI_ERROR(status) && file->size < wanted) {
        HttpMessage part = {NULL, 0, NULL, wanted - file->size, file->data + file->size};
        token.message = &part;
        token.status = EFI_NOT_READY;
        status = uefi_call_wrapper(http->Response, 2, http, &token);
        if (!EFI_ERROR(status))
            status = wait_for(&token);
        file->size += part.length;
    }
    uefi_call_wrapper(BS->CloseEvent, 1, token.event);
    return status;
}

static EFI_STATUS EFIAPI take(VOID *context, VOID *data, UINTN count, UINTN offset) {
    File *file = context;
    EFI_STATUS status = make_room(file, offset + count);
    if (EFI_ERROR(status))
        return status;
    CopyMem(file->data + offset, data, count);
    if (offset + count > file->size && count)
        file->size = offset + count;
    return EFI_SUCCESS;
}

static VOID EFIAPI finish(VOID *context, EFI_STATUS status) {
    File *file = context;
    file->status = status;
    file->finished = TRUE;
}

static EFI_STATUS load_ipxe(CONST CHAR8 *name, File *file) {
    VOID *handle = NULL;
    EFI_STATUS status = uefi_call_wrapper(download->Start, 6, download, (CHAR8 *)name, take, finish, file, &handle);
    if (EFI_ERROR(status))
        return status;
    while (!file->finished)
        uefi_call_wrapper(download->Poll, 1, download);
    return file->status;
}

static EFI_STATUS load(CONST CHAR8 *name, File *file) {
    EFI_STATUS status;
    SetMem(file, sizeof *file, 0);
    if (transport == TFTP)
        status = load_tftp(name, file);
    else if (transport == HTTP)
        status = load_http(name, file);
    else
        status = load_ipxe(name, file);
    if (EFI_ERROR(status))
        Print(L"mboot: %a: not found (%r)\n", name, status);
    return status;
}

/* --- boot.cfg ------------------------------------------------------------------------------------------------------- */

typedef struct {
    CHAR8 kernel[MAX_NAME], options[8192], prefix[MAX_NAME], title[MAX_NAME];
    CHAR8 *modules;
    BOOLEAN skip;
} Config;

static VOID store(CHAR8 *out, UINTN limit, CONST CHAR8 *value, UINTN count) {
    if (count + 1 > limit)
        stand_still(L"a value of boot.cfg is too long%a", (CHAR8 *)"");
    CopyMem(out, (VOID *)value, count);
    out[count] = 0;
}

static BOOLEAN is_key(CONST CHAR8 *text, UINTN count, CONST CHAR8 *key) {
    UINTN i;
    for (i = 0; i < count && key[i]; i++)
        if ((text[i] >= 'A' && text[i] <= 'Z' ? text[i] + 32 : text[i]) != key[i])
            return FALSE;
    return i == count && !key[i];
}

static VOID parse_line(Config *config, CONST CHAR8 *line, UINTN count) {
    UINTN key = 0;
    if (count == 0 || line[0] == '#')
        return;
    while (key < count && line[key] != '=')
        key++;
    if (key == count)
        stand_still(L"a line of boot.cfg has no '=': %a", line);
    CONST CHAR8 *value = line + key + 1;
    UINTN size = count - key - 1;
    if (is_key(line, key, (CHAR8 *)"kernel"))
        store(config->kernel, MAX_NAME, value, size);
    else if (is_key(line, key, (CHAR8 *)"kernelopt"))
        store(config->options, sizeof config->options, value, size);
    else if (is_key(line, key, (CHAR8 *)"prefix"))
        store(config->prefix, MAX_NAME, value, size);
    else if (is_key(line, key, (CHAR8 *)"title"))
        store(config->title, MAX_NAME, value, size);
    else if (is_key(line, key, (CHAR8 *)"modules")) {
        config->modules = AllocatePool(size + 1);
        store(config->modules, size + 1, value, size);
    } else if (KNOWS_SKIP && is_key(line, key, (CHAR8 *)"skip"))
        config->skip = size == 1 && value[0] == '1';
}

/* Runs of white space, carriage returns too, collapse; lines end at a newline. */
static VOID parse(Config *config, File *file) {
    CHAR8 *line = AllocatePool(file->size + 1);
    UINTN at = 0;
    SetMem(config, sizeof *config, 0);
    for (UINTN i = 0; i <= file->size; i++) {
        CHAR8 c = i < file->size ? file->data[i] : '\n';
        if (c == '\n') {
            while (at && line[at - 1] == ' ')
                at--;
            line[at] = 0;
            parse_line(config, line, at);
            at = 0;
        } else if (c == ' ' || c == '\t' || c == '\r') {
            if (at && line[at - 1] != ' ')
                line[at++] = ' ';
        } else
            line[at++] = c;
    }
    FreePool(line);
}

/* Where a kernel or module is looked for. */
static VOID locate(CHAR8 *out, Config *config, CONST CHAR8 *name, CONST CHAR8 *config_name) {
    CHAR8 base[MAX_NAME];
    if (name[0] == '/' || contains(name, (CHAR8 *)"://")) {
        join(out, MAX_NAME, (CHAR8 *)"", name);
        return;
    }
    if (!config->prefix[0])
        folder_of(base, config_name);
    else if (config->prefix[0] == '/' || contains(config->prefix, (CHAR8 *)"://"))
        join(base, MAX_NAME, (CHAR8 *)"", config->prefix);
    else
        join(base, MAX_NAME, bootdir, config->prefix);
    if (base[0] && base[length(base) - 1] != '/')
        join(base + length(base), MAX_NAME - length(base), (CHAR8 *)"/", (CHAR8 *)"");
    join(out, MAX_NAME, base, name);
}

/* --- how this program was loaded ------------------------------------------------------------------------------------ */

static EFI_DEVICE_PATH *node(EFI_DEVICE_PATH *path, UINT8 type, UINT8 subtype) {
    for (; path && !IsDevicePathEnd(path); path = NextDevicePathNode(path))
        if (DevicePathType(path) == type && DevicePathSubType(path) == subtype)
            return path;
    return NULL;
}

static VOID by_ipxe(EFI_DEVICE_PATH *path) {
    EFI_SIMPLE_NETWORK *snp = NULL;
    EFI_DEVICE_PATH *of_mac = node(path, MESSAGING_DEVICE_PATH, MSG_MAC_ADDR_DP);
    transport = IPXE;
    if (!EFI_ERROR(uefi_call_wrapper(BS->HandleProtocol, 3, loaded->DeviceHandle, &snp_guid, (VOID **)&snp)))
        CopyMem(mac, &snp->Mode->CurrentAddress, 6);
    else if (of_mac)
        CopyMem(mac, (UINT8 *)of_mac + 4, 6);
}

static VOID by_http(EFI_DEVICE_PATH *path) {
    EFI_DEVICE_PATH *uri = node(path, MESSAGING_DEVICE_PATH, 24), *of_mac = node(path, MESSAGING_DEVICE_PATH, MSG_MAC_ADDR_DP);
    EFI_DEVICE_PATH *v4 = node(path, MESSAGING_DEVICE_PATH, MSG_IPv4_DP);
    CHAR8 url[MAX_NAME];
    EFI_HANDLE nic = NULL, child = NULL;
    ServiceBinding *binding;
    EFI_DEVICE_PATH *rest = path;
    transport = HTTP;
    if (!of_mac || !v4 || DevicePathNodeLength(v4) < 27)
        stand_still(L"loaded by HTTP, and the device path does not say by which NIC%a", (CHAR8 *)"");
    store(url, MAX_NAME, (CHAR8 *)uri + 4, DevicePathNodeLength(uri) - 4);
    folder_of(bootdir, url);
    CopyMem(mac, (UINT8 *)of_mac + 4, 6);
    /* local address, remote address, two ports, protocol, static, gateway, mask */
    HttpV4 access = {FALSE, {0}, {0}, 0};
    CopyMem(access.address, (UINT8 *)v4 + 4, 4);
    CopyMem(access.subnet, (UINT8 *)v4 + 23, 4);
    HttpConfig config = {1, 10000, FALSE, &access};
    if (EFI_ERROR(uefi_call_wrapper(BS->LocateDevicePath, 3, &http_binding_guid, &rest, &nic)) ||
        EFI_ERROR(uefi_call_wrapper(BS->HandleProtocol, 3, nic, &http_binding_guid, (VOID **)&binding)) ||
        EFI_ERROR(uefi_call_wrapper(binding->CreateChild, 2, binding, &child)) ||
        EFI_ERROR(uefi_call_wrapper(BS->HandleProtocol, 3, child, &http_guid, (VOID **)&http)) ||
        EFI_ERROR(uefi_call_wrapper(http->Configure, 2, http, &config)))
        stand_still(L"the firmware gives no HTTP%a", (CHAR8 *)"");
}

static VOID by_tftp(VOID) {
    EFI_PXE_BASE_CODE_PACKET *packet = &pxe->Mode->DhcpAck;
    transport = TFTP;
    /* only the old fields of the packet are read, never options 66 and 67 */
    if (pxe->Mode->ProxyOfferReceived && !packet->Dhcpv4.BootpBootFile[0])
        packet = pxe->Mode->PxeReplyReceived ? &pxe->Mode->PxeReply : &pxe->Mode->ProxyOffer;
    CopyMem(&tftp_server, packet->Dhcpv4.BootpSiAddr, 4);
    CopyMem(mac, packet->Dhcpv4.BootpHwAddr, 6);
    packet->Dhcpv4.BootpBootFile[127] = 0;
    folder_of(bootdir, (CHAR8 *)packet->Dhcpv4.BootpBootFile);
}

/* Which way in this is; what -c names goes to ``named``. */
static VOID find_way_in(CHAR8 *named) {
    EFI_DEVICE_PATH *path = NULL;
    uefi_call_wrapper(BS->HandleProtocol, 3, loaded->DeviceHandle, &path_guid, (VOID **)&path);
    named[0] = 0;
    if (!EFI_ERROR(uefi_call_wrapper(BS->HandleProtocol, 3, loaded->DeviceHandle, &download_guid, (VOID **)&download)))
        by_ipxe(path);
    else if (path && node(path, MESSAGING_DEVICE_PATH, 24))
        by_http(path);
    else if (!EFI_ERROR(uefi_call_wrapper(BS->HandleProtocol, 3, loaded->DeviceHandle, &pxe_guid, (VOID **)&pxe)))
        by_tftp();
    else
        stand_still(L"not loaded from a network%a", (CHAR8 *)"");
    CHAR16 *options = loaded->LoadOptions;
    UINTN count = loaded->LoadOptionsSize / 2, i = 0, at = 0;
    while (i + 3 < count && !(options[i] == '-' && options[i + 1] == 'c' && options[i + 2] == ' '))
        i++;
    if (i + 3 >= count)
        return;
    for (i += 3; i < count && options[i] > ' ' && at < MAX_NAME - 1; i++)
        named[at++] = (CHAR8)options[i];
    named[at] = 0;
}

/* --- Linux ---------------------------------------------------------------------------------------------------------- */

static EFI_STATUS EFIAPI give_initrd(VOID *this, EFI_DEVICE_PATH *path, BOOLEAN policy, UINTN *size, VOID *buffer) {
    if (!buffer || *size < initrd_size) {
        *size = initrd_size;
        return EFI_BUFFER_TOO_SMALL;
    }
    CopyMem(buffer, initrd, initrd_size);
    *size = initrd_size;
    return EFI_SUCCESS;
}

static struct {
    EFI_STATUS(EFIAPI *LoadFile)(VOID *, EFI_DEVICE_PATH *, BOOLEAN, UINTN *, VOID *);
} initrd_loader = {give_initrd};

static VOID add_to_initrd(File *file) {
    UINTN size = (initrd_size + 3) & ~(UINTN)3;
    UINT8 *joined = AllocatePool(size + file->size);
    if (!joined)
        stand_still(L"out of memory%a", (CHAR8 *)"");
    SetMem(joined, size, 0);
    CopyMem(joined, initrd, initrd_size);
    CopyMem(joined + size, file->data, file->size);
    if (initrd)
        FreePool(initrd);
    FreePool(file->data);
    initrd = joined;
    initrd_size = size + file->size;
}

static EFI_STATUS start(File *kernel, CONST CHAR8 *command_line) {
    EFI_HANDLE handle = NULL, image = NULL;
    EFI_LOADED_IMAGE *child;
    EFI_STATUS status = uefi_call_wrapper(BS->InstallMultipleProtocolInterfaces, 6, &handle, &path_guid, &initrd_path,
                                          &load_file2_guid, &initrd_loader, NULL);
    if (EFI_ERROR(status))
        return status;
    status = uefi_call_wrapper(BS->LoadImage, 6, FALSE, self, NULL, kernel->data, kernel->size, &image);
    if (EFI_ERROR(status))
        return status;
    uefi_call_wrapper(BS->HandleProtocol, 3, image, &LoadedImageProtocol, (VOID **)&child);
    child->LoadOptions = PoolPrint(L"%a", command_line);
    child->LoadOptionsSize = (StrLen(child->LoadOptions) + 1) * 2;
    return uefi_call_wrapper(BS->StartImage, 3, image, NULL, NULL);
}

static VOID load_modules(Config *config, CONST CHAR8 *config_name) {
    CHAR8 path[MAX_NAME], name[MAX_NAME];
    CHAR8 *at = config->modules;
    UINTN count = 0;
    while (at && *at) {
        UINTN end = 0;
        File file;
        while (*at == ' ')
            at++;
        while (at[end] && !starts(at + end, (CHAR8 *)"---"))
            end++;
        store(name, MAX_NAME, at, end);
        at += end + (at[end] ? 3 : 0);
        /* what follows the first blank are the module's own options */
        for (end = 0; name[end] && name[end] != ' '; end++)
            ;
        name[end] = 0;
        if (!name[0])
            continue;
        locate(path, config, name, config_name);
        if (++count > MAX_MODULES || EFI_ERROR(load(path, &file)))
            stand_still(L"cannot load the module %a", path);
        add_to_initrd(&file);
    }
    Print(L"mboot: %d modules, %d bytes\n", count, initrd_size);
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *table) {
    static Config config;
    static CHAR8 names[2][MAX_NAME], stem[32], path[MAX_NAME], crypto[MAX_NAME], command_line[16384];
    File file, kernel;
    UINTN candidates = 0, found;
    self = image;
    InitializeLib(image, table);
    uefi_call_wrapper(BS->HandleProtocol, 3, image, &LoadedImageProtocol, (VOID **)&loaded);
    /* the firmware would restart the machine after five minutes of a fatal error */
    uefi_call_wrapper(BS->SetWatchdogTimer, 4, 0, 0, 0, NULL);
    find_way_in(path);
    CHAR16 *wide = PoolPrint(L"01-%02x-%02x-%02x-%02x-%02x-%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
    for (found = 0; wide[found]; found++)
        stem[found] = (CHAR8)(wide[found] >= 'A' && wide[found] <= 'F' ? wide[found] + 32 : wide[found]);
    Print(L"\nmboot: stand-in of ESXi %a, loaded by %a, NIC %a\n", STANDS_FOR,
          transport == TFTP ? "TFTP" : transport == HTTP ? "HTTP" : "iPXE", stem);
    if (path[0]) {
        if (path[0] == '/' || contains(path, (CHAR8 *)"://"))
            join(names[candidates++], MAX_NAME, (CHAR8 *)"", path);
        else {
            join(names[candidates++], MAX_NAME, bootdir, path);
            join(names[candidates++], MAX_NAME, (CHAR8 *)"/", path);
        }
    } else {
        join(names[0], MAX_NAME, bootdir, stem);
        join(names[candidates++], MAX_NAME, names[0], (CHAR8 *)"/boot.cfg");
        join(names[candidates++], MAX_NAME, bootdir, (CHAR8 *)"boot.cfg");
    }
    for (found = 0; found < candidates && EFI_ERROR(load(names[found], &file)); found++)
        ;
    if (found == candidates)
        stand_still(L"no %a", names[candidates - 1]);
    Print(L"mboot: configuration %a\n", names[found]);
    parse(&config, &file);
    if (config.skip) {
        Print(L"mboot: skipping boot from this configuration\n");
        return EFI_ABORTED;
    }
    if (!config.kernel[0])
        stand_still(L"kernel= must be set in %a", names[found]);
    if (transport != IPXE) {
        join(crypto, MAX_NAME, bootdir, (CHAR8 *)"crypto64.efi");
        if (!EFI_ERROR(load(crypto, &file)))
            FreePool(file.data);
    }
    locate(path, &config, config.kernel, names[found]);
    Print(L"mboot: %a: kernel %a\n", config.title, path);
    if (EFI_ERROR(load(path, &kernel)))
        stand_still(L"cannot load the kernel %a", path);
    load_modules(&config, names[found]);
    join(command_line, sizeof command_line, path, (CHAR8 *)" ");
    join(command_line + length(command_line), sizeof command_line - length(command_line), config.options, (CHAR8 *)" BOOTIF=");
    join(command_line + length(command_line), sizeof command_line - length(command_line), stem, (CHAR8 *)"");
    if (length(command_line) >= COMMAND_LINE_LIMIT)
        stand_still(L"the command line has 4096 bytes or more%a", (CHAR8 *)"");
    Print(L"mboot: starting the kernel\n");
    EFI_STATUS status = start(&kernel, command_line);
    Print(L"mboot: the kernel came back: %r\n", status);
    stand_still(L"cannot start %a", path);
    return status;
}
